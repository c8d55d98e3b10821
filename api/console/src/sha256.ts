/** SHA-256 of a stream. The browser's own takes only whole buffers, and is missing where a page is served without TLS. */

const K = new Int32Array(64);
const START = new Int32Array(8);

/** The first 32 bits of the fraction of a number. */
function fraction(value: number): number {
  return Math.floor((value - Math.floor(value)) * 0x1_0000_0000) | 0;
}

for (let candidate = 2, found = 0; found < 64; candidate++) {
  let prime = true;
  for (let divisor = 2; divisor * divisor <= candidate; divisor++) prime &&= candidate % divisor !== 0;
  if (!prime) continue;
  if (found < 8) START[found] = fraction(Math.sqrt(candidate));
  K[found++] = fraction(Math.cbrt(candidate));
}

export class Sha256 {
  private readonly state = Int32Array.from(START);
  private readonly words = new Int32Array(64);
  private readonly rest = new Uint8Array(64);
  private restLength = 0;
  private bytes = 0;

  update(data: Uint8Array): void {
    this.bytes += data.length;
    let position = 0;
    if (this.restLength > 0) {
      position = Math.min(64 - this.restLength, data.length);
      this.rest.set(data.subarray(0, position), this.restLength);
      this.restLength += position;
      if (this.restLength < 64) return;
      this.block(this.rest, 0);
      this.restLength = 0;
    }
    for (; position + 64 <= data.length; position += 64) this.block(data, position);
    this.rest.set(data.subarray(position));
    this.restLength = data.length - position;
  }

  /** Return the hash in hexadecimal; nothing may be added afterwards. */
  hex(): string {
    const bits = this.bytes * 8;
    const end = new Uint8Array((this.restLength < 56 ? 64 : 128) - this.restLength);
    end[0] = 0x80;
    const view = new DataView(end.buffer);
    view.setUint32(end.length - 8, Math.floor(bits / 0x1_0000_0000));
    view.setUint32(end.length - 4, bits >>> 0);
    this.update(end);
    return [...this.state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  private block(data: Uint8Array, start: number): void {
    const { state, words } = this;
    const byte = (i: number) => data[start + i] as number;
    for (let i = 0; i < 16; i++) words[i] = (byte(4 * i) << 24) | (byte(4 * i + 1) << 16) | (byte(4 * i + 2) << 8) | byte(4 * i + 3);
    for (let i = 16; i < 64; i++) {
      const a = words[i - 15] as number;
      const b = words[i - 2] as number;
      const low = ((a >>> 7) | (a << 25)) ^ ((a >>> 18) | (a << 14)) ^ (a >>> 3);
      const high = ((b >>> 17) | (b << 15)) ^ ((b >>> 19) | (b << 13)) ^ (b >>> 10);
      words[i] = ((words[i - 16] as number) + low + (words[i - 7] as number) + high) | 0;
    }
    const before = (i: number) => state[i] as number;
    let [a, b, c, d] = [before(0), before(1), before(2), before(3)];
    let [e, f, g, h] = [before(4), before(5), before(6), before(7)];
    for (let i = 0; i < 64; i++) {
      const high = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const choice = (e & f) ^ (~e & g);
      const first = (h + high + choice + (K[i] as number) + (words[i] as number)) | 0;
      const low = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const majority = (a & b) ^ (a & c) ^ (b & c);
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + low + majority) | 0;
    }
    state[0] = before(0) + a;
    state[1] = before(1) + b;
    state[2] = before(2) + c;
    state[3] = before(3) + d;
    state[4] = before(4) + e;
    state[5] = before(5) + f;
    state[6] = before(6) + g;
    state[7] = before(7) + h;
  }
}
