"""Lists of offers that did not come with this version: a person's own, fetched ones, and what differs."""
