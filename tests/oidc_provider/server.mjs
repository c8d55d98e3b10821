// An OpenID Connect provider for tests: sign-in by any name, with claims that the test sets.
// Arguments: port, file with the claims of each subject (read for each token), redirect URI.
import { readFileSync } from "node:fs";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [port, claimsFile, redirectUri] = process.argv.slice(2);
const claimsOf = (id) => ({ sub: id, ...(JSON.parse(readFileSync(claimsFile, "utf8"))[id] ?? {}) });
const key = (kid, type, options) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: "jwk" }),
  kid,
  use: "sig",
});
const names = ["preferred_username", "name", "email", "email_verified", "groups"];

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: {
    keys: [key(`rsa-${process.pid}`, "rsa", { modulusLength: 2048 }), key(`ec-${process.pid}`, "ec", { namedCurve: "P-256" })],
  },
  clients: [
    {
      client_id: "windlass",
      client_secret: "a-secret-of-the-tests",
      redirect_uris: [redirectUri],
      grant_types: ["authorization_code"],
      id_token_signed_response_alg: "RS256",
    },
    {
      client_id: "windlass-cli",
      token_endpoint_auth_method: "none",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "RS256",
    },
    {
      client_id: "nightly",
      client_secret: "another-secret-of-the-tests",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  claims: { openid: ["sub"], profile: names },
  conformIdTokenClaims: false,
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => claimsOf(id) }),
  extraTokenClaims: (_ctx, token) => ({ groups: claimsOf(token.clientId).groups ?? [] }),
  enabledJWA: { idTokenSigningAlgValues: ["RS256", "ES256", "PS256", "HS256"] },
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => ({
        scope: "api",
        audience: resource.replace("urn:", ""),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
  pkce: { required: () => true },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
