"""Columns of payload fields, kept current by every write, and what a filter allows."""
