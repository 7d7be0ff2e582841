"""Pure functions from state to text and plot data."""
