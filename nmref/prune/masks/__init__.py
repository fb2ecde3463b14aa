"""Masks as files of their own, and whether zeros were kept."""
