import { amount } from './backend.js';

/** One place to stay. */
export function Card({ listing }) {
  const price = amount(listing.price);
  const reviews = listing.reviews ?? [];
  const stars = reviews.reduce((sum, review) => sum + review.stars, 0) / reviews.length;
  return (
    <article className="card">
      <Picture kind={listing.kind} seed={listing._id ?? listing.name ?? ''} />
      <div className="card-text">
        <p className="where">{listing.town} · {listing.kind}</p>
        <h3>{listing.name}</h3>
        <p className="facts">
          <span><strong>{price > 0 ? `€${price.toFixed(2)}` : 'Not open yet'}</strong>{price > 0 && ' a night'}</span>
          {reviews.length > 0 && <span aria-label={`${stars.toFixed(1)} stars from ${reviews.length} reviews`}>★ {stars.toFixed(1)} ({reviews.length})</span>}
        </p>
        <ul className="tags">
          <li>sleeps {listing.sleeps}</li>
          {(listing.amenities ?? []).slice(0, 3).map((name) => <li key={name}>{name}</li>)}
        </ul>
      </div>
    </article>
  );
}

// A drawing instead of a photograph: no file, no foreign host, and no two skies alike.
function Picture({ kind, seed }) {
  const number = [...seed].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7);
  const hue = 12 + (number % 5) * 7;
  const roof = ['#b4503c', '#35606e', '#7a4b63', '#4d6b3c'][number % 4];
  return (
    <svg className="picture" viewBox="0 0 320 150" preserveAspectRatio="xMidYMid slice" aria-hidden="true">
      <rect width="320" height="150" fill={`hsl(${hue} 75% 82%)`} />
      <circle cx={60 + (number % 200)} cy="48" r="20" fill={`hsl(${hue + 6} 95% 68%)`} />
      <path d="M0 92 Q 80 70 160 90 T 320 84 V150 H0 Z" fill="#5f8f94" opacity=".55" />
      {kind === 'boat' ? (
        <g>
          <path d="M160 28 V104 M164 34 L206 92 H164 Z M156 46 L122 92 H156 Z" fill="#fffaf0" stroke="#4a3c31" strokeWidth="2" />
          <path d="M104 102 H222 L204 126 H122 Z" fill={roof} />
        </g>
      ) : (
        <g>
          <rect x="106" y="66" width="108" height="60" fill="#fffaf0" />
          <path d="M96 68 L160 28 L224 68 Z" fill={roof} />
          <rect x="122" y="80" width="18" height="18" fill="#f2b35d" />
          <rect x="180" y="80" width="18" height="18" fill={kind === 'room' ? '#f2b35d' : '#84aeb3'} />
          <rect x="151" y="92" width="18" height="34" fill="#4a3c31" />
        </g>
      )}
      <path d="M0 122 Q 40 112 80 122 T 160 122 T 240 122 T 320 122 V150 H0 Z" fill="#0f5c6e" />
    </svg>
  );
}
