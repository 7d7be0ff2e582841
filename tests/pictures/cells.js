// Draws screens of a terminal, cell by cell, and prints them as pixels of a palette: Python makes PNGs of them.
// Braille, blocks and lines are drawn as shapes, so that they meet whatever the font does.
"use strict";
const LINES = {  // arms: left, right, up, down; 1 light, 2 heavy
  "─": "1100", "│": "0011", "┌": "0101", "┐": "1001", "└": "0110", "┘": "1010", "├": "0111", "┤": "1011",
  "┬": "1101", "┴": "1110", "┼": "1111", "━": "2200", "┃": "0022", "┏": "0202", "┓": "2002", "┗": "0220",
  "┛": "2020", "╍": "2200", "╌": "1100", "╴": "1000", "╶": "0100", "╷": "0001", "╵": "0010", "┯": "2201",
  "┠": "0122", "┨": "1022", "╼": "1200", "╾": "2100", "┝": "0211", "┥": "2011",
};
const ROUND = { "╭": [1, 1], "╮": [-1, 1], "╰": [1, -1], "╯": [-1, -1] };
// quarters: top left, top right, bottom left, bottom right
const QUARTERS = {
  "▖": "0010", "▗": "0001", "▘": "1000", "▙": "1011", "▚": "1001", "▛": "1110", "▜": "1101", "▝": "0100",
  "▞": "0110", "▟": "0111", "▀": "1100", "▄": "0011", "▌": "1010", "▐": "0101", "█": "1111",
};

function shape(g, char, x, y, w, h) {
  const code = char.codePointAt(0), light = Math.max(1, Math.round(w / 8)), cx = x + w / 2, cy = y + h / 2;
  if (code >= 0x2800 && code <= 0x28ff) {
    const order = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [0, 3], [1, 3]], r = w / 5.4;
    order.forEach(([i, j], bit) => {
      if (code - 0x2800 >> bit & 1) {
        g.beginPath();
        g.arc(x + w * (i + 0.5) / 2, y + h * (j + 0.5) / 4, r, 0, 7);
        g.fill();
      }
    });
  } else if (char in QUARTERS) {
    [...QUARTERS[char]].forEach((on, k) => {
      const left = k % 2, top = k >> 1, mx = Math.round(w / 2), my = Math.round(h / 2);
      if (on === "1") g.fillRect(x + left * mx, y + top * my, left ? w - mx : mx, top ? h - my : my);
    });
  } else if (code >= 0x2581 && code <= 0x2587) {
    const part = Math.round(h * (code - 0x2580) / 8);
    g.fillRect(x, y + h - part, w, part);
  } else if (code >= 0x2589 && code <= 0x258f) {
    g.fillRect(x, y, Math.max(1, Math.round(w * (0x2590 - code) / 8)), h);
  } else if (char === "▔") {
    g.fillRect(x, y, w, Math.max(1, Math.round(h / 8)));
  } else if (char in ROUND) {
    const [right, down] = ROUND[char], r = w / 2, mx = Math.floor(cx) + light % 2 / 2, my = Math.floor(cy) + light % 2 / 2;
    g.lineWidth = light;
    g.beginPath();
    g.moveTo(right > 0 ? x + w : x, my);
    g.arcTo(mx, my, mx, my + down * r, r);
    g.lineTo(mx, down > 0 ? y + h : y);
    g.stroke();
  } else if (char in LINES) {
    const dashed = "╌╍".includes(char), [left, right, up, down] = [...LINES[char]].map(Number);
    const bar = (size, a, b, across) => {
      const width = size * light, from = Math.floor(across) - (width - 1 >> 1);
      return [width, from, a, b];
    };
    for (const [size, a, b] of [[left, x, Math.floor(cx) + light], [right, Math.floor(cx), x + w]]) {
      if (!size) continue;
      const [width, from] = bar(size, a, b, cy);
      g.fillRect(a, from, dashed ? Math.max(1, (b - a) * 0.6) : b - a, width);
    }
    for (const [size, a, b] of [[up, y, Math.floor(cy) + light], [down, Math.floor(cy), y + h]]) {
      if (!size) continue;
      const [width, from] = bar(size, a, b, cx);
      g.fillRect(from, a, width, b - a);
    }
  } else return false;
  return true;
}

function draw(picture, cell) {
  const [w, h] = cell, canvas = document.createElement("canvas");
  canvas.width = picture.columns * w;
  canvas.height = picture.rows.length * h;
  const g = canvas.getContext("2d", { willReadFrequently: true });
  g.fillStyle = picture.ground;
  g.fillRect(0, 0, canvas.width, canvas.height);
  g.textBaseline = "alphabetic";
  picture.rows.forEach((row, j) => {
    let i = 0;
    for (const [text, colour, ground, style] of row) {
      for (const char of text) {
        const cells = picture.wide.includes(char) ? 2 : 1, x = i * w, y = j * h;
        g.fillStyle = ground;
        g.fillRect(x, y, w * cells, h);
        g.fillStyle = g.strokeStyle = colour;
        if (char.trim() && !shape(g, char, x, y, w, h)) {
          g.font = `${style.includes("i") ? "italic " : ""}${style.includes("b") ? "bold " : ""}${h * 0.8}px "DejaVu Sans Mono", monospace`;
          g.save();
          g.beginPath();
          g.rect(x, y, w * cells, h);
          g.clip();
          g.fillText(char, x, y + Math.round(h * 0.77), w * cells);
          g.restore();
        }
        if (style.includes("u")) g.fillRect(x, y + h - 2, w * cells, 1);
        i += cells;
      }
    }
  });
  return g.getImageData(0, 0, canvas.width, canvas.height);
}

function indexed(image, most, colours) {
  const pixels = new Uint32Array(image.data.buffer), counts = new Map();
  for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) || 0) + 1);
  // the colours of the cells first, however few pixels they have; then what smooths the edges of letters
  const named = new Set(colours.map((text) => parseInt("ff" + text.slice(5) + text.slice(3, 5) + text.slice(1, 3), 16) >>> 0));
  const rank = ([pixel, count]) => (named.has(pixel) ? 1e9 : 0) + count;
  const common = [...counts].sort((a, b) => rank(b) - rank(a)).slice(0, most).map(([pixel]) => pixel), at = new Map();
  common.forEach((pixel, k) => at.set(pixel, k));
  const parts = (p) => [p & 255, p >> 8 & 255, p >> 16 & 255];
  for (const pixel of counts.keys()) {
    if (at.has(pixel)) continue;
    const [r, gr, b] = parts(pixel);
    let best = 0, least = Infinity;
    common.forEach((other, k) => {
      const [R, G, B] = parts(other), far = (r - R) ** 2 + (gr - G) ** 2 + (b - B) ** 2;
      if (far < least) [best, least] = [k, far];
    });
    at.set(pixel, best);
  }
  const bytes = Uint8Array.from(pixels, (pixel) => at.get(pixel));
  let text = "";
  for (let k = 0; k < bytes.length; k += 30000) text += String.fromCharCode(...bytes.subarray(k, k + 30000));
  return { width: image.width, height: image.height, palette: common.map(parts), pixels: btoa(text) };
}

const found = PICTURES.map((picture) => indexed(draw(picture, CELL), MOST_COLOURS, picture.colours));
document.body.textContent = JSON.stringify(found);
