"""Where bytes live: the content-addressed cache that all projects of a user share."""
