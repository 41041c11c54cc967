// Provides the model, joined to Jupyter's server.

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { URLExt } from "@jupyterlab/coreutils";
import { ServerConnection } from "@jupyterlab/services";
import { JoinedServer } from "./commServer.ts";
import type { Listed } from "./protocol.ts";
import { ListError, type Server, Services, type SocketLike } from "./services.ts";
import { IComms, INbcompose } from "./tokens.ts";

/** What is on the event bus when the list of services has changed. */
const SCHEMA = /\/nbcompose\//;

export function jupyterServer(settings: ServerConnection.ISettings): Server {
  return {
    async list() {
      const url = URLExt.join(settings.baseUrl, "nbcompose/api/services");
      const response = await ServerConnection.makeRequest(url, { cache: "no-store" }, settings);
      if (!response.ok) throw new ListError(response.status);
      const { runtimes } = (await response.json()) as { runtimes: Listed[] };
      return runtimes;
    },
    connect() {
      const url = URLExt.join(settings.wsUrl, "nbcompose/api/watch");
      const token = settings.appendToken && settings.token ? `?token=${encodeURIComponent(settings.token)}` : "";
      return new settings.WebSocket(url + token) as SocketLike;
    },
  };
}

export const servicesPlugin: JupyterFrontEndPlugin<INbcompose> = {
  id: "nbcompose:services",
  description: "The services of nbcompose that run on this server.",
  autoStart: true,
  provides: INbcompose,
  optional: [IComms],
  activate(app: JupyterFrontEnd, comms: IComms | null): INbcompose {
    const { serviceManager } = app;
    const server = jupyterServer(serviceManager.serverSettings);
    const joined = comms ? new JoinedServer(server, comms) : null;
    const services = new Services(joined ?? server);
    if (joined) joined.changed = () => services.note();
    serviceManager.events?.stream.connect((_, emission) => {
      if (SCHEMA.test(String(emission.schema_id))) services.note();
    });
    return services;
  },
};
