"""The page that shows the whole study: pictures, charts and sentences from what the pipeline wrote, as one file."""
