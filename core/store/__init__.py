"""What is kept on disk: whole files, runs, class images."""
