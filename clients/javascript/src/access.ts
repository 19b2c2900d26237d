/** Who asks: the headers and the access token of a request. */

import type { Problem } from "./problem.js";

/**
 * An access token, or what gets one: it is called before each request, with the problem if the token before was refused.
 * Keep the token yourself where getting one costs something.
 */
export type Token = string | ((refused?: Problem) => string | Promise<string>);

export interface Access {
  /** Sent as `Authorization: Bearer …`. Without one, cookies count. */
  token?: Token | undefined;
  /** Further headers. */
  headers?: HeadersInit | undefined;
  /** `include` sends cookies to another origin as well. */
  credentials?: RequestCredentials | undefined;
}

/** Return the headers of a request, and the token in them. */
export async function authorized(access: Access, refused?: Problem): Promise<[Headers, string | undefined]> {
  const headers = new Headers(access.headers);
  const token = typeof access.token === "function" ? await access.token(refused) : access.token;
  if (token) headers.set("authorization", `Bearer ${token}`);
  return [headers, token];
}

/** Return the milliseconds until a token ends, by this machine's clock; nothing if it does not say. */
export function lifetime(token: string | undefined): number | undefined {
  try {
    const claims = JSON.parse(atob(token!.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/"))) as { exp?: unknown };
    return typeof claims.exp === "number" ? claims.exp * 1000 - Date.now() : undefined;
  } catch {
    return undefined; // no JWT: the service knows how to read it
  }
}
