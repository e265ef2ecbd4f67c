"""Entity IDs and URLs of the tests."""

IDP = "https://idp.example/metadata"
SSO = "https://idp.example/sso?tenant=1&lang=en"
PUBLIC_URL = "https://portal.acme.example"
