"""Networks of published label models, written anew, with the names of their weight files."""
