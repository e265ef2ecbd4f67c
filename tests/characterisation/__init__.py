"""How requests are answered, as a table that is compared with every run.

``cases.py`` says which requests there are, ``table.json`` has one row for each, in one line. Its name tells the group,
the application's configuration, what has happened before, what the request carries, and who asks for what. In the row:

- ``status``, ``statusCode`` of the envelope, ``type`` of any other body, ``headers``, ``cookies``, ``user``
- ``steps``: each step's outcome and reason; ``decision``; the ``signals`` and the ``log`` events, in their order
- ``asked``: how often Salesforce, Genesys, the passwords and the accounts were asked
- ``explain``: what ``explain --json`` says of the same request just before; ``used up`` are limits without a slot
- ``left``: how many wrong attempts still pass for the account and for the address, and how many of those Genesys sees

What is empty is left out. Where a promise changes, ``python -m tests.characterisation.record`` writes the table anew;
that is a commit of its own, which says why.
"""
