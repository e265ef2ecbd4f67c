"""Who is who in these tests."""

IDP = "https://idp.example/metadata"
SSO = "https://idp.example/sso?tenant=1&lang=en"
PUBLIC_URL = "https://portal.acme.example"
