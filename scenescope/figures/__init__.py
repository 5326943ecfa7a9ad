"""The figures: each module draws one, from arrays or tables to a ``matplotlib.figure.Figure``."""
