// The plugins. Each has one role and can be disabled alone; each requires only what it cannot do without.

import { cardsPlugin } from "./cardsPlugin.ts";
import { cellsPlugin } from "./cellsPlugin.ts";
import { commandsPlugin } from "./commandsPlugin.ts";
import { commPlugin } from "./commPlugin.ts";
import { completionPlugin } from "./completionPlugin.ts";
import { graphPlugin } from "./graphPlugin.ts";
import { launcherPlugin } from "./launcherPlugin.ts";
import { lspPlugin } from "./lspPlugin.ts";
import { panelPlugin } from "./panelPlugin.ts";
import { runningPlugin } from "./runningPlugin.ts";
import { servicesPlugin } from "./servicesPlugin.ts";
import { statusPlugin } from "./statusPlugin.ts";

export { INbcompose } from "./tokens.ts";

export default [
  commPlugin,
  servicesPlugin,
  commandsPlugin,
  runningPlugin,
  statusPlugin,
  launcherPlugin,
  panelPlugin,
  graphPlugin,
  cellsPlugin,
  cardsPlugin,
  completionPlugin,
  lspPlugin,
];
