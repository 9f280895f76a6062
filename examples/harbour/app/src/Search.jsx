import { useState } from 'react';
import { Answer } from './Answer.jsx';
import { Card } from './Card.jsx';
import { useCall } from './backend.js';

const AMENITIES = ['Wi-Fi', 'Kitchen', 'Sea view', 'Fireplace', 'Dogs welcome'];

export function Search({ towns }) {
  const [wish, setWish] = useState({ guests: 2, maxPrice: 120, amenities: ['Kitchen'] });
  const call = useCall('/api/listings/search', wish);
  const set = (change) => setWish({ ...wish, ...change });
  const toggle = (name) => set({
    amenities: wish.amenities.includes(name) ? wish.amenities.filter((one) => one !== name) : [...wish.amenities, name],
  });
  return (
    <section aria-labelledby="search">
      <h2 id="search">A place that fits</h2>
      <form className="wishes" onSubmit={(event) => event.preventDefault()}>
        <label>Town
          <select value={wish.town ?? ''} onChange={(event) => set({ town: event.target.value || undefined })}>
            <option value="">anywhere</option>
            {towns.map((town) => <option key={town}>{town}</option>)}
          </select>
        </label>
        <label>Guests
          <input type="number" min="1" max="12" value={wish.guests} onChange={(event) => set({ guests: Number(event.target.value) || 1 })} />
        </label>
        <label>At most € a night
          <input type="number" min="1" step="5" value={wish.maxPrice} onChange={(event) => set({ maxPrice: Number(event.target.value) || 1 })} />
        </label>
        <fieldset>
          <legend>With</legend>
          {AMENITIES.map((name) => (
            <label key={name} className="check">
              <input type="checkbox" checked={wish.amenities.includes(name)} onChange={() => toggle(name)} /> {name}
            </label>
          ))}
        </fieldset>
      </form>
      <Answer call={call} exercise="mongodb-2">
        {(rows) => <div className="cards">{rows.slice(0, 6).map((row) => <Card key={row._id} listing={row} />)}</div>}
      </Answer>
    </section>
  );
}
