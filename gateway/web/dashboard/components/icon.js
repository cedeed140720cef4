/** Icons: lines on a grid of 20 by 20, in the colour of the text. They say nothing to screen readers. */

import { svg } from "../dom.js";

const PATHS = {
  overview: "M3 11.5 10 4l7 7.5M5 10v6.5h10V10",
  account: "M10 10.5a3.3 3.3 0 1 0 0-6.6 3.3 3.3 0 0 0 0 6.6ZM3.8 16.8c.8-2.6 3.2-4 6.2-4s5.4 1.4 6.2 4",
  security: "M10 3 4 5.3v4.4c0 3.6 2.5 6 6 7.3 3.5-1.3 6-3.7 6-7.3V5.3L10 3ZM7.5 10l1.8 1.8 3.4-3.6",
  organizations: "M3 17V6.5L9 4v13M9 8.5h8V17M2 17h16M5.8 8.5v0M5.8 11.5v0M12 11.5h2M12 14h2",
  users:
    "M7.5 10a2.8 2.8 0 1 0 0-5.6 2.8 2.8 0 0 0 0 5.6ZM2 16.5c.6-2.5 2.7-4 5.5-4s4.9 1.5 5.5 4" +
    "M13 4.6a2.8 2.8 0 0 1 0 5.2M15.2 12.8c1.5.6 2.5 1.9 2.8 3.7",
  plans: "m10 3 7 3.5-7 3.5-7-3.5L10 3ZM3.5 10.2 10 13.5l6.5-3.3M3.5 13.7 10 17l6.5-3.3",
  sessions: "M3 4.5h14v9H3zM7 17h6M10 13.5V17",
  changes: "M3 10h3l2.2-5.5L12 15.5 14 10h3",
  audit: "M5 3h7.5L16 6.5V17H5zM12 3v4h4M7.8 10h5.4M7.8 13h5.4",
  node: "M3.5 4h13v5h-13zM3.5 11h13v5h-13zM6.5 6.5v0M6.5 13.5v0M9.5 6.5h4M9.5 13.5h4",
  key: "M12.5 11.5a4 4 0 1 0-3.8-2.8L3 14.4V17h2.6v-1.8h1.8v-1.8h1.7l1.2-1.2c.7.2 1.4.3 2.2.3ZM13.5 6.7v0",
  instances: "M10 3 4 6.3v7.4l6 3.3 6-3.3V6.3L10 3ZM4.2 6.5 10 9.7l5.8-3.2M10 9.7V17",
  close: "m5 5 10 10M15 5 5 15",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  menu: "M3 6h14M3 10h14M3 14h14",
  more: "M4 9.6h.8v.8H4zM9.6 9.6h.8v.8h-.8zM15.2 9.6h.8v.8h-.8z",
  plus: "M10 4v12M4 10h12",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11ZM13.2 13.2 17 17",
  warning: "M10 3.5 2.5 16.5h15L10 3.5ZM10 8.5v3.5M10 14.3v0",
  info: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM10 9.5V13M10 7v0",
  refresh: "M16 10a6 6 0 1 1-1.9-4.4M16 3.5v3h-3",
  signOut: "M8 3.5H4v13h4M12.5 6.5 16 10l-3.5 3.5M16 10H8",
  sun:
    "M10 13.2a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4ZM10 2v2M10 16v2M2 10h2M16 10h2" +
    "M4.3 4.3l1.4 1.4M14.3 14.3l1.4 1.4M4.3 15.7l1.4-1.4M14.3 5.7l1.4-1.4",
  moon: "M16.5 11.7A6.7 6.7 0 0 1 8.3 3.5a6.7 6.7 0 1 0 8.2 8.2Z",
  system: "M3 4.5h14v9H3zM7 17h6M10 13.5V17",
  eye: "M2 10s3-5.5 8-5.5S18 10 18 10s-3 5.5-8 5.5S2 10 2 10ZM10 12.3a2.3 2.3 0 1 0 0-4.6 2.3 2.3 0 0 0 0 4.6Z",
  phone: "M6 2.5h8v15H6zM9.5 15v0h1v0",
  arrow: "M4 10h12M11.5 5.5 16 10l-4.5 4.5",
  chevron: "m7.5 5 5 5-5 5",
  trash: "M4 5.5h12M8 5.5V3.5h4v2M5.5 5.5 6.3 17h7.4l.8-11.5",
  edit: "m4 16 .8-3.5L13.3 4 16 6.7 7.5 15.2 4 16Z",
  clock: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM10 6v4.2l2.8 1.6",
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {IconName} name */
export function icon(name) {
  return svg(
    "svg",
    { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    svg("path", { d: PATHS[name] }),
  );
}

/** The mark of the product. */
export function logo() {
  return svg(
    "svg",
    { class: "logo", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    svg("rect", { class: "logo-ground", width: 32, height: 32, rx: 8 }),
    svg("path", { class: "logo-line", d: "M8 22.5v-7a8 8 0 0 1 16 0v7M13 22.5V16a3 3 0 0 1 6 0v6.5" }),
  );
}
