"""What a call costs, as far as it can be counted: multiply-adds, operators, random draws, calls of Python."""
