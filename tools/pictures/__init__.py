"""Does each workflow's picture make its point? Every workflow, as it stands, on held-out subjects, judged and shown."""
