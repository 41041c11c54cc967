// The address that a card's link to the page of its service has, through Jupyter's server.

import type { Listed } from "./protocol.ts";

/** Cards name the page, `SERVICE/docs`, and no address, which would be another one in each run of a notebook. */
export const CARD_LINK = "a[data-nbc-at]";

const PAGE = /^([^/]+)\/(docs)$/;

/** The path of a page that a card names; "" where the notebook's kernel does not run that service, or not over HTTP. */
export function pageOf(at: string, runtime: Listed | undefined): string {
  const [, name, page] = PAGE.exec(at) ?? [];
  const service = runtime?.services.find((one) => one.name === name);
  return service?.link && page ? service.link + page : "";
}
