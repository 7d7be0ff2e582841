"""Run folders: create, event log, commands, reader and launch. Imports neither torch nor textual."""
