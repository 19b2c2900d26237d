/** What the service refuses, and whether to ask again. */

/** A problem document (RFC 9457). Where something else than the service answers, it has only the `status`. */
export interface Problem {
  status: number;
  /** Stable, for programs: `unauthorized`, `forbidden`, `offset-gone`, … */
  code?: string;
  title?: string;
  /** For people: names the value, the rule and the way out. */
  detail?: string;
  [more: string]: unknown;
}

/** A request was refused. */
export class Refused extends Error {
  override name = "Refused";

  constructor(readonly problem: Problem) {
    super(problem.detail ?? problem.title ?? `the service answered ${problem.status}`);
  }
}

/** Read the problem that an answer carries, as far as it does: a gateway's may be any JSON, or none. */
export async function problemOf(answer: Response): Promise<Problem> {
  const said: unknown = await answer.json().catch(() => null);
  return { ...(typeof said === "object" && said), status: answer.status };
}

/**
 * Whether the same request would be refused again.
 *
 * A proxy's 404 or 400 may be gone in a moment, while the service is deployed, say: only the service's own are final.
 * Those about who asks (401, 403) are final from whomever, as in docs/browser.md.
 */
export function isFinal(answer: Response): boolean {
  const { status } = answer;
  if (status === 401 || status === 403 || status === 410) return true;
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status) && isProblem(answer);
}

function isProblem(answer: Response): boolean {
  return answer.headers.get("content-type")?.startsWith("application/problem+json") ?? false;
}
