"""Everything that touches Textual's private names or writes to the terminal directly."""
