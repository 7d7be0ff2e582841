"""What a run will need before it starts: memory, FLOPs, time, cost, and how to make it fit."""
