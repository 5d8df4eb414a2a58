"""What the descriptions of the API say beyond what follows from routes and schemas: words, examples, headers."""
