import { Card } from './Card.jsx';
import { Availability } from './Availability.jsx';
import { Browse } from './Browse.jsx';
import { Search } from './Search.jsx';
import { Towns } from './Towns.jsx';
import { useCall } from './backend.js';

export function App() {
  const overview = useCall('/api/overview');
  const { count, towns = [], featured = [] } = overview.value ?? {};
  return (
    <>
      <header className="hero">
        <Waves />
        <div className="hero-text">
          <p className="brand">Harbour</p>
          <h1>Sleep where the boats do.</h1>
          <p>
            {count === undefined
              ? 'Small places to stay, a rope’s length from the water.'
              : `${count} small places to stay in ${towns.length} harbour towns, straight from your own database.`}
          </p>
        </div>
      </header>
      <main>
        {overview.error && <p className="trouble" role="alert">{overview.error}</p>}
        <section aria-labelledby="afloat">
          <h2 id="afloat">Afloat tonight</h2>
          <div className="cards">
            {featured.map((listing) => <Card key={listing._id} listing={listing} />)}
          </div>
        </section>
        <Browse />
        <Search towns={towns} />
        <Towns />
        <Availability towns={towns} />
      </main>
      <footer>Harbour is invented: its towns, its people and its prices. Its databases are yours.</footer>
    </>
  );
}

function Waves() {
  return (
    <svg className="waves" viewBox="0 0 1440 220" preserveAspectRatio="none" aria-hidden="true">
      <path className="wave-far" d="M0 90 C 240 40 480 140 720 90 S 1200 40 1440 90 V 220 H 0 Z" />
      <path className="wave-mid" d="M0 130 C 200 90 460 180 720 130 S 1240 90 1440 130 V 220 H 0 Z" />
      <path className="wave-near" d="M0 175 C 260 140 500 210 720 175 S 1220 140 1440 175 V 220 H 0 Z" />
    </svg>
  );
}
