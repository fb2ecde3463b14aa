"""What a recipe says, as a file; presets; what a result was made with."""
