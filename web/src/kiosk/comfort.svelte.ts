// How one person wants the screen, for as long as they stand before it.

export const COMFORTS = ['large', 'contrast', 'low', 'slow', 'speech'] as const;
export type Comfort = (typeof COMFORTS)[number];

/** By how much `slow` stretches every time limit: what WCAG 2.2.1 asks of a limit that can be adjusted. */
export const SLOWER = 10;

class Comforts {
  private chosen = $state.raw<ReadonlySet<Comfort>>(new Set());
  /** Languages in which the locker can read its screen out. */
  voices = $state.raw<string[]>([]);

  readonly offered: Comfort[] = $derived(COMFORTS.filter((each) => each !== 'speech' || this.voices.length > 0));

  on(which: Comfort): boolean {
    return this.chosen.has(which);
  }

  toggle(which: Comfort): void {
    const chosen = new Set(this.chosen);
    if (!chosen.delete(which)) chosen.add(which);
    this.chosen = chosen;
  }

  /** The next person begins as everybody does. */
  reset(): void {
    if (this.chosen.size) this.chosen = new Set();
  }

  /** As classes of the whole screen. */
  get classes(): string {
    return [...this.chosen].join(' ');
  }
}

export const comforts = new Comforts();
