import { Anchor, Button, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { client, unwrap } from "../api";
import { signInRoute } from "../router";
import { signIn, signInByLink } from "../session";
import { Command, Failure } from "../widgets";

/** The path after the sign-in: one of this server only. Browsers remove control characters, so none is allowed. */
function target(to: string | undefined): string {
  return to !== undefined && /^\/(?![/\\])[!-~]*$/.test(to) ? to : "/";
}

/** The code of a link, which `windlass open` puts into the fragment; it is removed from the address and the history. */
function takeCode(): string {
  const code = /^#code=(.+)$/.exec(window.location.hash)?.[1] ?? "";
  if (code !== "") window.history.replaceState(window.history.state, "", window.location.pathname);
  return code;
}

const linkCode = takeCode();

export function SignInPage() {
  const { to } = signInRoute.useSearch();
  const queries = useQueryClient();
  const [key, setKey] = useState("");
  const methods = useQuery({ queryKey: ["auth"], queryFn: () => unwrap(client.GET("/v1/auth")) });
  const entering = useMutation({
    mutationFn: (text: string) => signIn(queries, text),
    onSuccess: () => {
      window.location.replace(target(to));
    },
  });
  const byLink = useMutation({
    mutationFn: (code: string) => signInByLink(queries, code),
    onSuccess: () => {
      window.location.replace("/");
    },
  });
  const { mutate, isIdle } = byLink;
  useEffect(() => {
    if (linkCode !== "" && isIdle) mutate(linkCode);
  }, [mutate, isIdle]);
  useEffect(() => {
    document.title = "Sign in · Windlass";
  }, []);
  const provider = methods.data?.sign_in_path;
  return (
    <main className="sign-in">
      <Paper withBorder p="xl" className="sign-in-box">
        <Stack gap="md">
          <div>
            <img src="/icon.svg" alt="" width={36} height={36} />
            <Title order={1}>Sign in to Windlass</Title>
          </div>
          {provider ? (
            <Button component="a" href={`${provider}?return_to=${encodeURIComponent(target(to))}`}>
              Sign in with your organization
            </Button>
          ) : null}
          <form
            onSubmit={(event) => {
              event.preventDefault();
              entering.mutate(key.trim());
            }}
          >
            <Stack gap="sm">
              <PasswordInput
                label="API key"
                description="It begins with wlk_. Your browser gets a session, and does not store the key."
                value={key}
                autoComplete="off"
                onChange={(event) => {
                  setKey(event.currentTarget.value);
                }}
                visibilityToggleButtonProps={{ "aria-label": "Show the key", tabIndex: 0 }}
                required
              />
              <Button type="submit" variant={provider ? "default" : "filled"} loading={entering.isPending}>
                Sign in with the key
              </Button>
            </Stack>
          </form>
          {entering.error ? <Failure error={entering.error} /> : null}
          {byLink.error ? <Failure error={byLink.error} /> : null}
          <div>
            <Text size="sm" c="dimmed">
              Without a key at hand, on the machine of the server or where the command line is signed in:
            </Text>
            <Command text="windlass open" />
          </div>
          <Text size="xs" c="dimmed">
            Programs use the API: <Anchor href="/v1/openapi.json" underline="always" inherit>its description</Anchor>
          </Text>
        </Stack>
      </Paper>
    </main>
  );
}
