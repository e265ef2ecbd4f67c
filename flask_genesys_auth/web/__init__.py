"""The parts that use Flask: access, Flask-Login, origins, refusals and the SAML views."""
