import type { Words } from '../words';

const words: Words = {
  name: 'English',
  language: 'Language',
  locker: 'Parcel locker',
  collect: {
    head: 'Type the code from your message',
    hint: '9 digits. You need neither an app nor a phone signal.',
    open: 'Open',
    typed: (count, of) => `${count} of ${of} digits`,
  },
  extension: {
    head: 'Now the 4 digits beside your code',
    hint: 'They are in the same message. Too many wrong codes were typed here today, so we ask for these as well.',
  },
  keys: { erase: 'Erase', back: 'Back', home: 'Start again', again: 'Try again' },
  courier: {
    enter: 'Courier',
    badge: { title: 'Scan your badge', text: 'Hold it in front of the scanner.' },
    pin: { title: 'Type your PIN', text: 'The PIN that belongs to your badge.' },
    booking: { title: 'Scan the label', text: 'Or type the booking number that is on it.' },
    size: 'How large is the parcel?',
    sizes: { S: 'Small', M: 'Medium', L: 'Large' },
    low: { title: 'Low door', text: 'for someone who cannot reach high' },
    next: 'Next',
    open: 'Open a door',
    step: (step, of) => `Courier · step ${step} of ${of}`,
  },
  checking: 'One moment',
  typo: 'A digit is mistyped. Compare it with your message; this does not count as a wrong try.',
  refused: {
    no_such_code: {
      title: 'No parcel here has this code',
      text: 'Look whether your message names this locker, then type the code once more.',
    },
    expired: {
      title: 'This code has run out',
      text: 'The time to collect is over. The sender can tell you where the parcel is now.',
    },
    used: {
      title: 'This code has been used',
      text: 'The door was opened with it before. If that was not you, call the number on this locker.',
    },
    wait: {
      title: 'Please wait a moment',
      text: 'Too many wrong codes were typed at this locker. Yours is tried again by itself when the time is up.',
    },
    busy: {
      title: 'Another door is being opened',
      text: 'One at a time, so that nobody takes the wrong parcel. You are next.',
    },
    out_of_service: {
      title: 'This door cannot be opened now',
      text: 'Something in the locker is broken. Your code stays valid. Please call the number on this locker.',
    },
    confirm_needed: {
      title: 'Is your parcel still inside?',
      text: 'Last time the locker could not see whether your door opened. Stand at the door before you say yes.',
    },
    not_allowed: {
      title: 'Badge or PIN not accepted',
      text: 'The PIN is wrong, or the badge has run out or is meant for other lockers. Ask your hub for a new one.',
    },
    booking_refused: {
      title: 'This parcel is not expected here',
      text: 'Check the number on the label. The parcel may belong to another locker, or lie in this one already.',
    },
    no_room: {
      title: 'No free door of this size',
      text: 'Try a larger size, or one without the low door.',
    },
    closed: {
      title: 'No deposits at this hour',
      text: 'This locker takes parcels in at other hours. Collecting a parcel always works.',
    },
    trouble: {
      title: 'That did not work',
      text: 'The locker refused and gave no reason that this screen knows. Please call the number on this locker.',
    },
  },
  confirm: { yes: 'Yes, open the door', no: 'No, I have it' },
  door: {
    go: 'Go to door',
    opening: 'It is opening',
    open: 'Door is open',
    take: 'Take your parcel and close the door',
    put: 'Put the parcel in and close the door',
    leaveNothing: 'I leave no parcel',
    closeEmpty: 'Close the empty door',
    leftOpen: 'Please close the door',
    taken: { title: 'Thank you', text: 'The door is closed. Have a good day.' },
    stored: { title: 'The parcel is in', text: 'The door is closed.' },
    nothingStored: { title: 'Nothing was stored', text: 'The door is closed and its compartment is empty.' },
    jammed: (door) => ({
      title: `Door ${door} did not open`,
      text: 'It may be stuck. Press against the door with your hand, then try again. Your code stays valid.',
    }),
    jammedDeposit: (door) => ({
      title: `Door ${door} did not open`,
      text: 'Keep the parcel. Another door will be chosen.',
    }),
    unknown: (door) => ({
      title: `Is door ${door} open?`,
      text: 'The locker cannot see it. Please look and tell.',
    }),
    unknownDeposit: (door) => ({
      title: `The locker cannot see door ${door}`,
      text: 'Do not leave the parcel there. Close the door if it is open, and take another one.',
    }),
    yes: 'Yes, it is open',
    no: 'No, open it again',
    another: 'Another door',
    nextParcel: 'Next parcel',
    finish: 'Finish',
    lost: (door) => ({
      title: 'The locker does not answer',
      text: `If door ${door} is open, take what is yours and close it. If not, stay here: we keep trying.`,
    }),
  },
  gone: {
    title: 'This locker is not answering',
    text: 'Your parcel is safe and your code stays valid. We keep trying; if it takes long, call the number on this locker.',
  },
  goneAsking: {
    title: 'The locker did not answer',
    text: 'If a door opens now, take your parcel and close it. If none does, wait here and type your code again.',
  },
  notPaired: {
    title: 'This screen is not connected',
    text: 'It has to be started again by the operator. Please call the number on this locker.',
  },
  leftOpen: (doors) => `Open: ${doors}. Please close the door.`,
  stillThere: (seconds) => `Still there? Touch the screen to go on · ${seconds}`,
};

export default words;
