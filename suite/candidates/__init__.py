"""What is compared and timed: every implementation, files of users, and what people use today."""
