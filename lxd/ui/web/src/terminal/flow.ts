/**
 * Flow control for a terminal. Websockets of a browser cannot be told to wait, so what
 * a fast program prints would pile up in the page. This counts what was handed to the
 * terminal and not drawn yet, and tells the server to hold back above a mark.
 */
export class Flow {
  private pending = 0;
  private held = false;
  private readonly hold: (on: boolean) => void;
  private readonly high: number;
  private readonly low: number;

  constructor(hold: (on: boolean) => void, high = 1 << 18, low = 1 << 16) {
    this.hold = hold;
    this.high = high;
    this.low = low;
  }

  /** Bytes have come in. */
  took(n: number): void {
    this.pending += n;
    if (!this.held && this.pending > this.high) {
      this.held = true;
      this.hold(true);
    }
  }

  /** Bytes are on the screen. */
  drew(n: number): void {
    this.pending = Math.max(0, this.pending - n);
    if (this.held && this.pending < this.low) {
      this.held = false;
      this.hold(false);
    }
  }
}
