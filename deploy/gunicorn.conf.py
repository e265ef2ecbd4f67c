"""How gunicorn serves one node; what differs between machines is given on its command line, which outranks this."""

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = 2
# More than one and a half times `concurrent_calls` (4): a Salesforce that hangs never takes a worker's last thread.
threads = 8
# A reload (SIGHUP) reads code and configuration anew. True saves memory and forbids that; nothing else depends on it.
preload_app = False
# No connection of nginx waits here for its next request: a worker that ends cuts off none.
keepalive = 0
# Longer than the longest step may take; a worker that says nothing for so long is replaced.
timeout = 30
graceful_timeout = 30
# A heartbeat in memory, not on a disk that may stall.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn makes a nameless file there
# SAML messages in an address, Salesforce session ids in a header.
limit_request_line = 8190
limit_request_field_size = 16380
# Neither a thread nor a socket in the process that forks.
control_socket_disable = True
