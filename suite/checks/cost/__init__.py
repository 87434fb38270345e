"""What makes a call slow and changes no result, as far as it can be counted."""
