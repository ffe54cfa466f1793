"""A CLIP as a text encoder that trains, with learned vectors."""
