"""Tests of the code as text: layout, style, caps, documents, packaging."""
