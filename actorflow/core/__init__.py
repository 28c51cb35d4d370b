"""What must happen next: decisions without sockets, tasks, clock or chance."""
