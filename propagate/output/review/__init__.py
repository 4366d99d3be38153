"""The review page: measures of labels, flags, pictures and the one HTML file they go into."""
