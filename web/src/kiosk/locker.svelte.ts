// What the locker tells of itself, asked for while nobody uses the screen.

import * as api from './api';
import type { DoorView, Front, Place } from './api';
import { comforts } from './comfort.svelte';

const GONE_AFTER = 2; // missed answers in a row: one may be a restart in passing

const OPEN = new Set(['open', 'ajar', 'forced']);

class Locker {
  doors = $state.raw<DoorView[]>([]);
  front = $state.raw<Front>({ width_mm: 0, height_mm: 0, screen: null });
  /** Spoken here by the operator's wish; none: whatever the page knows. */
  languages: string[] = [];
  /** The digits that prove to an app that its owner stands here, "" for none. */
  shown = $state('');

  readonly openDoors: string = $derived(
    this.doors
      .filter((door) => OPEN.has(door.state))
      .map((door) => door.door)
      .join(', '),
  );

  /** Where a door is on the front, unless nobody has said. */
  place(door: string): Place | undefined {
    const place = this.doors.find((each) => each.door === door)?.place;
    return this.front.width_mm && place?.width_mm ? place : undefined;
  }

  private missed = 0;
  private met = false;

  /** Ask it how it stands; `late` is one missed answer, which says nothing yet. */
  async ask(): Promise<'well' | 'late' | 'gone' | 'notPaired'> {
    try {
      const told = await api.doors();
      this.doors = told.doors;
      this.front = told.front;
      this.languages = told.languages;
      if (!this.met) comforts.voices = await api.voices();
      this.met = true;
      this.shown = await api.shown();
      this.missed = 0;
      return 'well';
    } catch (error) {
      this.missed++;
      return error instanceof api.NotPaired ? 'notPaired' : this.missed >= GONE_AFTER ? 'gone' : 'late';
    }
  }
}

export const locker = new Locker();
