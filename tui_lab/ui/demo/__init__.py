"""The demo: scripted or replayed, in the real app."""
