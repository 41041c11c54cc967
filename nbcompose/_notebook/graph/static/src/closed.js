// Notebooks that were closed while their page stayed. JupyterLab tells their widgets nothing of it.

/** @import { Managed } from "./types.d.ts" */

/**
 * Whether the notebook of a widget was closed: opened again, it has a model of its own for the same widget, which alone
 * hears of the kernel.
 *
 * @param {Managed} model
 */
export const isClosed = (model) => model.widget_manager?.context?.isDisposed === true;
