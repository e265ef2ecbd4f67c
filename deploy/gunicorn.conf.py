"""How gunicorn serves one node; what differs between machines is given on its command line, which outranks this."""

bind = "0.0.0.0:8000"
worker_class = "gthread"
workers = 2
# More than one and a half times `concurrent_calls` (4): a hung Salesforce never blocks a worker's last thread.
threads = 8
# With False a reload (SIGHUP) reads code and configuration again. True saves memory instead.
preload_app = False
# No keep-alive: a worker that stops closes no idle connection of nginx.
keepalive = 0
# Longer than any step may take; a worker without a heartbeat for so long is replaced.
timeout = 30
graceful_timeout = 30
# The heartbeat file is in memory, because a disk may stall.
worker_tmp_dir = "/dev/shm"  # noqa: S108 - gunicorn creates an unnamed file there
# SAML messages in a URL, Salesforce session ids in a header.
limit_request_line = 8190
limit_request_field_size = 16380
# The process that forks has neither a thread nor a socket.
control_socket_disable = True
