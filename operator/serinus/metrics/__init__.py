"""Where numbers come from: providers that are asked, and the templates that make their queries."""
