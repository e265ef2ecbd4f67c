"""The SAML protocol, without Flask: nothing here is imported unless a contact center has SAML."""
