"""Who is personalized, and by which words: subject, identifier, prompts."""
