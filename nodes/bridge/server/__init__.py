"""What the editor and other clients ask of the server beside a graph: routes of our own."""
