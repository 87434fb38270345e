"""What a user installs and reads: wheels, dependencies and pages."""
