"""What makes it happen: the host, its replicas and their mailboxes. Carries out what core decides."""
