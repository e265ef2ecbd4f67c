"""All that knows Flask: access, the seam with Flask-Login, origins, refusals and the SAML views."""
