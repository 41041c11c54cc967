import assert from "node:assert/strict";
import { test } from "node:test";
import {
  bounded,
  fitting,
  pinch,
  roomOf,
  STEP,
  scrolledTo,
  standsBeside,
  wheelFactor,
  zoomed,
} from "../../nbcompose/_notebook/graph/static/src/viewport.js";

const PLACE = { width: 950, height: 600 };

test("a picture that has room keeps its size", () => {
  assert.equal(fitting({ width: 500, height: 300 }, PLACE, false), 1);
  assert.equal(fitting({ width: 500, height: 300 }, PLACE, true), 1);
});

test("a wide picture is fitted to the width, a tall one as a whole only where that is asked for", () => {
  assert.equal(fitting({ width: 1187.5, height: 300 }, PLACE, false), 0.8);
  assert.equal(fitting({ width: 900, height: 1200 }, PLACE, false), 1);
  assert.equal(fitting({ width: 900, height: 1200 }, PLACE, true), 0.5);
  assert.equal(fitting({ width: 9000, height: 90_000 }, PLACE, true), bounded(0));
  assert.equal(fitting({ width: 0, height: 0 }, PLACE, true), 1);
});

test("a picture is never so small that it cannot be read, but as a whole", () => {
  const sideBar = { width: 300, height: 800 };
  assert.equal(fitting({ width: 940, height: 300 }, sideBar, false), 0.75);
  assert.equal(fitting({ width: 330, height: 4000 }, sideBar, false), 300 / 330);
  assert.equal(fitting({ width: 1200, height: 300 }, sideBar, true), 0.25);
});

test("a picture is laid out for steps of width, within bounds", () => {
  assert.deepEqual([0, 100, 171, 299, 300, 319, 939, 2000].map(roomOf), [160, 160, 160, 280, 300, 300, 920, 940]);
});

test("what is under the pointer stays there, at any scale", () => {
  const seen = { scale: 0.8, left: 120, top: 40 };
  const at = { x: 300, y: 200 };
  /** @param {typeof seen} glance */
  const under = ({ scale, left, top }) => [(left + at.x) / scale, (top + at.y) / scale];
  for (const scale of [0.2, 0.8, 1.3, 3]) {
    const now = zoomed(seen, scale, at);
    assert.equal(now.scale, scale);
    under(now).forEach((value, i) => assert.ok(Math.abs(value - under(seen)[i]) < 1e-9));
  }
});

test("a scale has bounds, at which nothing moves any more", () => {
  const most = zoomed({ scale: 1, left: 0, top: 0 }, 100, { x: 0, y: 0 });
  assert.equal(most.scale, bounded(Infinity));
  assert.deepEqual(zoomed(most, 200, { x: 50, y: 50 }), most);
  assert.equal(bounded(0), 0.1);
});

test("a notch of the wheel is a step, in the units of any browser, and a strong turn no more", () => {
  assert.equal(wheelFactor({ deltaY: -100, deltaMode: 0 }), STEP);
  assert.ok(Math.abs(wheelFactor({ deltaY: -3, deltaMode: 1 }) - STEP) < 0.01);
  assert.equal(wheelFactor({ deltaY: -5000, deltaMode: 0 }), STEP);
  assert.ok(Math.abs(wheelFactor({ deltaY: 100, deltaMode: 0 }) * STEP - 1) < 1e-12);
  assert.equal(wheelFactor({ deltaY: 0, deltaMode: 0 }), 1);
});

test("bringing something into sight scrolls no further than needed", () => {
  assert.equal(scrolledTo(100, 500, 200, 300), 100);
  assert.equal(scrolledTo(100, 500, 700, 800), 300);
  assert.equal(scrolledTo(100, 500, 50, 90), 50);
  assert.equal(scrolledTo(100, 500, 700, 1900), 700); // larger than its place: from its beginning
  assert.equal(scrolledTo(100, 500, -20, 60), 0);
});

test("a panel stands beside a picture where both have room", () => {
  assert.equal(standsBeside(950, 940), false);
  assert.equal(standsBeside(1100, 608), true);
  assert.equal(standsBeside(1219, 940), false);
  assert.equal(standsBeside(1220, 940), true);
  assert.equal(standsBeside(0, 0), false);
});

test("two fingers have a middle and a distance, which is never nothing", () => {
  assert.deepEqual(pinch({ x: 0, y: 0 }, { x: 30, y: 40 }), { at: { x: 15, y: 20 }, apart: 50 });
  assert.equal(pinch({ x: 7, y: 7 }, { x: 7, y: 7 }).apart, 1);
});
