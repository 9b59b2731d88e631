"""What an evaluation found: results in one schema, the numbers made of them, and how an answer is checked."""
